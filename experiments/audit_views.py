"""The API view of an experiment's audit events."""

from audit.models import Event, EventQuerySet
from audit.views import EventSearch
from core.identity import Level
from experiments.views import ExperimentResource


class ExperimentAuditView(EventSearch, ExperimentResource):
    """Search the audit events of one experiment, for its managers."""

    resource = "experiment_audit"
    tag = "audit"
    required_levels = {"search": Level.MANAGE}
    filter_example = {"action": "permissions_changed"}

    def get_queryset(self) -> EventQuerySet:
        return Event.objects.in_experiment(self.get_reference().pk)
