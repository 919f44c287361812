"""Who has access to an experiment and why, for its managers, who see what a change would do before it is saved."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from core.api.errors import sentences
from core.api.json_input import text_problem
from core.identity import Level, is_entitlement
from core.versions import VersionConflict
from experiments.models import Experiment, handed_over
from experiments.serializers import HandoverSerializer, SharingSerializer, entities_of
from experiments.sharing import (
    SHARED,
    Holder,
    Preview,
    UnknownUser,
    access_of,
    access_of_entity,
    holders,
    named_entity,
    preview_of,
)
from pages.page import ExperimentPage

STALE = "Someone else saved first, so your changes were not saved. The current members are shown below."


@dataclass(frozen=True)
class Row:
    """An entry of a permission list in the form; `level` is "" where it is to be removed."""

    holder: Holder
    level: str
    before: str = ""


class PermissionsPage(ExperimentPage):
    """The permission list as a form. It carries the version that it was made from, and is refused for another."""

    resource = "permissions-page"
    required_levels = {"retrieve": Level.MANAGE, "change": Level.MANAGE, "hand_over": Level.MANAGE}

    def retrieve(self, request: Request, experiment_id: str) -> HttpResponse:
        """Who has access; with `entity`, also which level somebody else has, and why."""
        experiment = self.get_experiment()
        asked = request.query_params.get("entity", "").strip()
        try:
            found = self.access_of_somebody(experiment, asked) if asked else {}
        except UnknownUser as error:
            return self.show_list(experiment, 422, asked=asked, nobody=str(error))
        return self.show_list(experiment, asked=asked, **found)

    def access_of_somebody(self, experiment: Experiment, asked: str) -> dict[str, Any]:
        if problem := text_problem(asked):
            raise UnknownUser(problem)
        entity = named_entity(asked, self.identity.entitlements | entities_of(experiment))
        return {"somebody": holders([entity])[entity], "access": access_of_entity(experiment, entity)}

    def change(self, request: Request, experiment_id: str) -> HttpResponse:
        """Show what would change; with `step=save`, change it; with `step=edit`, go on filling in the form."""
        return self.unless_stale(self.share)

    def hand_over(self, request: Request, experiment_id: str) -> HttpResponse:
        """Show what handing over would change; with `step=save`, hand over."""
        return self.unless_stale(self.hand_over_to)

    def unless_stale(self, act: Callable[[Experiment], HttpResponse]) -> HttpResponse:
        experiment = self.get_experiment()
        with suppress(VersionConflict):
            if self.form.get("version") == experiment.version(*SHARED):
                return act(experiment)
        return self.show_list(experiment, 409, problems=[STALE])

    def share(self, experiment: Experiment) -> HttpResponse:
        step, entries = self.form.get("step"), list(entries_in(self.form))
        kept = [entry for entry in entries if entry["level"]]
        public = "public" in self.form
        wanted = SharingSerializer(
            experiment,
            data={"permissions": kept, "public": public},
            partial=True,
            context=self.get_serializer_context(),
        )
        try:
            wanted.is_valid(raise_exception=True)
            preview = wanted.preview()
        except ValidationError as error:
            return self.show_list(experiment, 422, entries, public, list(problems_of(error, kept)))
        match step:
            case "edit":
                return self.show_list(experiment, 200, entries, public)
            case "save":
                wanted.save(version=experiment.version(*SHARED))
                return self.done(experiment, "Members saved.")
        hidden = [
            (name, getattr(entry, name))
            for entry in wanted.validated_data["permissions"]
            for name in ("entity", "level")
        ]
        return self.show_preview(experiment, preview, [*hidden, *([("public", "on")] if public else [])])

    def hand_over_to(self, experiment: Experiment) -> HttpResponse:
        sent = {"entity": self.form.get("manager", ""), "keep": self.form.get("keep") or None}
        wanted = HandoverSerializer(data=sent, context=self.get_serializer_context())
        if not wanted.is_valid():
            return self.show_list(experiment, 422, problems=[sentence for _, sentence in sentences(wanted.errors)])
        manager, keep = wanted.validated_data["entity"], wanted.validated_data["keep"]
        if self.form.get("step") == "save":
            experiment.hand_over(self.identity, manager, keep)
            return self.done(experiment, f"{experiment} transferred to {manager}.")
        after = handed_over(experiment.permissions, self.identity, manager, keep)
        hidden = [("manager", str(manager.pk)), ("keep", keep or "")]
        return self.show_preview(experiment, preview_of(experiment, after, experiment.public), hidden)

    def done(self, experiment: Experiment, said: str) -> HttpResponse:
        """To the best page of the experiment that the caller may see still."""
        messages.success(self.request._request, said)
        level = experiment.level_of(self.identity)
        if level is None:
            return redirect("experiments")
        return redirect("permissions" if level is Level.MANAGE else "experiment", experiment.pk)

    def show_list(
        self,
        experiment: Experiment,
        status: int = 200,
        entries: Iterable[Mapping[str, str]] | None = None,
        public: bool | None = None,
        problems: Collection[str] = (),
        **context: Any,
    ) -> HttpResponse:
        """The list as it is, or the `entries` and `public` that were sent, to go on with."""
        stored = {entry.entity: entry.level for entry in experiment.permissions}
        wanted = dict(stored)
        if entries is not None:
            wanted = dict.fromkeys(stored, "") | {entry["entity"]: entry["level"] for entry in entries}
        known = holders(wanted)
        rows = [Row(known[entity], level, stored.get(entity, "")) for entity, level in wanted.items()]
        return self.show_of(
            experiment,
            "permissions.html",
            status,
            rows=rows,
            public=experiment.public if public is None else public,
            problems=problems,
            own=access_of(experiment, self.identity),
            levels=Level.values,
            version=experiment.version(*SHARED),
            suggestions=sorted(filter(is_entitlement, self.identity.entities | stored.keys())),
            **context,
        )

    def show_preview(self, experiment: Experiment, preview: Preview, hidden: Iterable[tuple[str, str]]) -> HttpResponse:
        return self.show_of(
            experiment,
            "permissions_preview.html",
            preview=preview,
            own=access_of(experiment, self.identity),
            may_go_on=self.action == "change",
            hidden=[("version", preview.version), *hidden],
        )


def entries_in(form: QueryDict) -> Iterator[dict[str, str]]:
    """The rows of the form; the one to add somebody with may be empty."""
    for entity, level in zip(form.getlist("entity"), form.getlist("level"), strict=False):
        if entity.strip():
            yield {"entity": entity.strip(), "level": level}


def problems_of(error: ValidationError, entries: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """The sentences of a refused list, each with the entry that it is about."""
    for place, sentence in sentences(error.detail):
        _, _, index = place.removesuffix(".entity").removesuffix(".level").partition(".")
        yield f"{entries[int(index)]['entity']}: {sentence}" if index.isdecimal() else sentence
