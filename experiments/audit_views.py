"""The part of the audit trail that an experiment's managers see."""

from audit.models import Event, EventQuerySet
from audit.views import EventSearch
from core.identity import Level
from experiments.views import ExperimentResource


class ExperimentAuditView(EventSearch, ExperimentResource):
    resource = "experiment_audit"
    required_levels = {"search": Level.MANAGE}
    filter_example = {"action": "permissions_changed"}

    def get_queryset(self) -> EventQuerySet:
        return Event.objects.matching({"experiment_id": self.get_reference().pk.hex})
