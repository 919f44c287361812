"""The pages that create, change, archive and delete an experiment."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib import messages
from django.db import IntegrityError
from django.http import HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils.html import format_html
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from core.api.search import bounded_time
from core.identity import Level, Requirement
from core.totals import Total, total_of
from core.versions import VersionConflict
from drifts.models import Drift
from drifts.retention import Preview, days_that_count, preview_of
from experiments.models import Experiment, restorable_until
from experiments.serializers import ExperimentSerializer
from experiments.views import ExperimentView
from pages.experiment_form import ExperimentForm
from pages.page import ExperimentPage, Page
from pages.suggestions import Suggestions

APPLIED = " The new rules are being applied to its stored runs: see the progress under Settings."
REMOVED = " Its runs that are older than {} day{} are removed, beginning in a day."
NO_RUNS = Total(0)
# The form fields that the confirmation does not send again.
UNSENT = ("csrfmiddlewaretoken", "confirmed", "step")


class NewExperimentPage(Page):
    """The form of a new experiment."""

    resource = "experiment-new-page"
    required_levels = {"new": Requirement.MAY_CREATE, "create": Requirement.MAY_CREATE}

    def new(self, request: Request) -> HttpResponse:
        """Show the empty form."""
        return self.show("experiment_new.html", form=ExperimentForm.of(Experiment()), paths=[])

    def create(self, request: Request) -> HttpResponse:
        """Create the experiment that the form describes."""
        form = ExperimentForm.sent(request.POST)
        with refusals(form):
            serializer = ExperimentSerializer(data=form.document(), context=self.get_serializer_context())
            serializer.is_valid(raise_exception=True)
            experiment = serializer.save()
            messages.success(request._request, f"“{experiment}” was created. You manage it.")
            return redirect("experiment", experiment.pk)
        return self.show("experiment_new.html", 422, form=form, paths=[])


class EditExperimentPage(ExperimentPage):
    """The form of an existing experiment."""

    resource = "experiment-edit-page"
    required_levels = {"edit": Level.MANAGE, "update": Level.MANAGE}

    def edit(self, request: Request, experiment_id: str) -> HttpResponse:
        """Show the form with the experiment's values."""
        experiment = self.get_experiment()
        return self.show_form(experiment, ExperimentForm.of(experiment))

    def update(self, request: Request, experiment_id: str) -> HttpResponse:
        """Save the form, unless the experiment was changed since the form was filled.

        Before runs are kept for a shorter time, show how many are too old then. Return to the form with `step=edit`.
        """
        experiment, form = self.get_experiment(), ExperimentForm.sent(request.POST)
        if self.form.get("step") == "edit":
            return self.show_form(experiment, form)
        rules, retained = experiment.run_rules, experiment.retention_days
        with refusals(form):
            context = self.get_serializer_context()
            serializer = ExperimentSerializer(experiment, data=form.document(), partial=True, context=context)
            serializer.is_valid(raise_exception=True)
            days = serializer.validated_data.get("retention_days", retained)
            if is_shorter(days, retained) and self.form.get("confirmed") != str(days):
                with bounded_time():
                    preview = preview_of(experiment.pk, days_that_count(days))
                if preview.runs != NO_RUNS:
                    return self.confirm(experiment, preview, days)
            try:
                serializer.save(version=form.version)
            except VersionConflict:
                form.compare(experiment)
            if not form.newer:
                applied = APPLIED if experiment.run_rules.version != rules.version else ""
                kept = days_that_count(days)
                removed = REMOVED.format(kept, pluralize(kept)) if is_shorter(days, retained) else ""
                messages.success(request._request, f"“{form.values['name']}” was saved.{applied}{removed}")
                return redirect("experiment", experiment_id)
        return self.show_form(experiment, form, 409 if form.newer else 422)

    def confirm(self, experiment: Experiment, preview: Preview, days: int) -> HttpResponse:
        """Show the number of runs that are too old, in a form that sends all submitted fields again."""
        sent = [(name, value) for name, values in self.form.lists() if name not in UNSENT for value in values]
        sent.append(("confirmed", str(days)))
        return self.show_of(experiment, "experiment_retention.html", preview=preview, sent=sent)

    def show_form(self, experiment: Experiment, form: ExperimentForm, status: int = 200) -> HttpResponse:
        """Show the form, with suggestions of paths, and the progress of applying changed rules to stored runs."""
        with bounded_time():
            paths = list(Suggestions.of(experiment).paths)
        progress = progress_of(experiment)
        context = {"form": form, "paths": paths, "progress": progress, "restorable_until": restorable_until()}
        return self.show_of(experiment, "experiment_edit.html", status, **context)


def is_shorter(days: int | None, before: int | None) -> bool:
    """Return whether an experiment keeps runs for a shorter time than before, with `RETENTION_DAYS` in mind."""
    new, old = days_that_count(days), days_that_count(before)
    return new is not None and (old is None or new < old)


def progress_of(experiment: Experiment) -> str:
    """A sentence about the work that applies changed rules to stored runs; empty if there is none."""
    if not (work := experiment.recomputation):
        return ""
    rule = "series" if work["field"] == "series_by" else "fields from parameters"
    return f"Applying the changed {rule} to stored runs: {work['done']:,} of {work['total']:,} runs."


@contextmanager
def refusals(form: ExperimentForm) -> Iterator[None]:
    """Add validation errors, and a name that is taken, to the form's errors."""
    try:
        yield
    except ValidationError as error:
        form.refuse(error)
    except IntegrityError:
        form.errors["name"] = [ExperimentView.conflict]


class ArchivePage(ExperimentPage):
    """The actions of the buttons that archive and restore an experiment. They redirect to the edit page."""

    resource = "experiment-archive-page"
    required_levels = {"archive": Level.MANAGE, "restore": Level.MANAGE}

    def archive(self, request: Request, experiment_id: str) -> HttpResponse:
        experiment = self.get_experiment()
        experiment.archive_by(self.identity)
        messages.success(request._request, f"“{experiment}” was archived. Find it under Archived, or restore it here.")
        return redirect("experiment-edit", experiment_id)

    def restore(self, request: Request, experiment_id: str) -> HttpResponse:
        experiment = self.get_experiment()
        experiment.restore_by(self.identity)
        messages.success(request._request, f"“{experiment}” was restored, and is in the list of experiments again.")
        return redirect("experiment-edit", experiment_id)


class DeleteExperimentPage(ExperimentPage):
    """The confirmation and the deletion of an experiment."""

    resource = "experiment-delete-page"
    required_levels = {"confirm": Level.MANAGE, "destroy": Level.MANAGE}

    def confirm(self, request: Request, experiment_id: str) -> HttpResponse:
        """Ask for the name of the experiment to delete."""
        return self.ask(self.get_experiment())

    def destroy(self, request: Request, experiment_id: str) -> HttpResponse:
        """Move the experiment with its runs to the trash, if its name was typed."""
        experiment = self.get_experiment()
        typed = request.POST.get("name", "").strip()
        if typed != experiment.name.strip():
            return self.ask(experiment, 422, typed=typed, error=f"Type exactly: {experiment.name}")
        runs = experiment.count_runs()
        experiment.delete_by(self.identity)
        sentence = f"“{experiment}” was deleted{' with its runs' if runs else ''}."
        if until := restorable_until():
            link = '{} It can be restored from the <a href="{}">trash</a> until {} UTC.'
            sentence = format_html(link, sentence, reverse("trash"), f"{until:%Y-%m-%d %H:%M}")
        messages.success(request._request, sentence)
        return redirect("experiments")

    def ask(self, experiment: Experiment, status: int = 200, typed: str = "", error: str = "") -> HttpResponse:
        runs = total_of(Drift.objects.of(experiment))
        context = {"runs": runs, "restorable_until": restorable_until(), "typed": typed, "error": error}
        return self.show_of(experiment, "experiment_delete.html", status, **context)
