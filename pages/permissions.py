"""The page of an experiment's permissions. Its managers preview a change before they save it."""

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
from experiments.models import Experiment, completed, handed_over, max_permissions
from experiments.serializers import HandoverSerializer, SharingSerializer, entities_of
from experiments.sharing import (
    NOBODY,
    SHARED,
    Holder,
    Preview,
    UnknownUser,
    access_of,
    access_of_entity,
    holders,
    levels,
    named_entity,
    preview_of,
)
from pages.page import ExperimentPage

STALE = "Someone else saved first, so your changes were not saved. The current members are shown below."


@dataclass(frozen=True)
class Row:
    """An entry of a permission list in the form. `level` is "" for an entry to remove."""

    holder: Holder
    level: str
    before: str = ""


class PermissionsPage(ExperimentPage):
    """The permission list as a form. The form holds the version it was made from, and is refused for another one."""

    resource = "permissions-page"
    required_levels = {"retrieve": Level.MANAGE, "change": Level.MANAGE, "hand_over": Level.MANAGE}

    def retrieve(self, request: Request, experiment_id: str) -> HttpResponse:
        """Show the list; with `entity`, also that entity's level and the reasons for it."""
        experiment = self.get_experiment()
        text = request.query_params.get("entity", "").strip()
        try:
            found = self.requested_access(experiment, text) if text else {}
        except UnknownUser as error:
            return self.show_list(experiment, 422, typed_entity=text, access_error=str(error))
        return self.show_list(experiment, typed_entity=text, **found)

    def requested_access(self, experiment: Experiment, text: str) -> dict[str, Any]:
        if problem := text_problem(text):
            raise UnknownUser(problem)
        known = self.identity.entitlements | entities_of(experiment)
        entity = named_entity(text, self.identity, known)
        if entity == text and "@" in text and text not in known:
            # An address that is no valid email would pass for the name of a group.
            raise UnknownUser(NOBODY.format("email"))
        return {"holder": holders([entity])[entity], "access": access_of_entity(experiment, entity)}

    def change(self, request: Request, experiment_id: str) -> HttpResponse:
        """Preview a change of the list; save it with `step=save`; return to the form with `step=edit`."""
        return self.unless_stale(self.share)

    def hand_over(self, request: Request, experiment_id: str) -> HttpResponse:
        """Preview a hand-over; make it with `step=save`."""
        return self.unless_stale(self.hand_over_to)

    def unless_stale(self, act: Callable[[Experiment], HttpResponse]) -> HttpResponse:
        """Run the action if the form has the current version; otherwise show the current list with a 409."""
        experiment = self.get_experiment()
        with suppress(VersionConflict):
            if self.form.get("version") == experiment.version(*SHARED):
                return act(experiment)
        return self.show_list(experiment, 409, problems=[STALE])

    def share(self, experiment: Experiment) -> HttpResponse:
        step, entries = self.form.get("step"), list(entries_in(self.form))
        remaining = [entry for entry in entries if entry["level"]]
        public = "public" in self.form
        serializer = SharingSerializer(
            experiment,
            data={"permissions": remaining, "public": public},
            partial=True,
            context=self.get_serializer_context(),
        )
        try:
            serializer.is_valid(raise_exception=True)
            preview = serializer.preview()
        except ValidationError as error:
            shown = entries if len(entries) <= max_permissions(experiment) else None
            return self.show_list(experiment, 422, shown, public, list(problems_of(error, remaining)))
        match step:
            case "edit":
                return self.show_list(experiment, 200, entries, public)
            case "save":
                serializer.save(version=experiment.version(*SHARED))
                return self.done(experiment, "The members were saved.")
        wanted = serializer.validated_data["permissions"]
        hidden = [(name, getattr(entry, name)) for entry in wanted for name in ("entity", "level")]
        return self.show_preview(
            experiment,
            preview,
            [*hidden, *([("public", "on")] if public else [])],
            stays_manager=levels(completed(wanted, self.identity)) != levels(wanted),
        )

    def hand_over_to(self, experiment: Experiment) -> HttpResponse:
        sent = {"entity": self.form.get("manager", ""), "keep": self.form.get("keep") or None}
        serializer = HandoverSerializer(data=sent, context=self.get_serializer_context())
        if not serializer.is_valid():
            return self.show_list(experiment, 422, problems=[sentence for _, sentence in sentences(serializer.errors)])
        manager, keep = serializer.validated_data["entity"], serializer.validated_data["keep"]
        if self.form.get("step") == "save":
            experiment.hand_over(self.identity, manager, keep)
            return self.done(experiment, f"“{experiment}” was transferred to {manager}.")
        after = handed_over(experiment.permissions, self.identity, manager, keep)
        hidden = [("manager", str(manager.pk)), ("keep", keep or "")]
        return self.show_preview(experiment, preview_of(experiment, after, experiment.public), hidden)

    def done(self, experiment: Experiment, message: str) -> HttpResponse:
        """Redirect to these permissions, or to a page that the caller may still see."""
        messages.success(self.request._request, message)
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
        """Render the form with the stored list, or with the submitted `entries` and `public`."""
        stored = {entry.entity: entry.level for entry in experiment.permissions}
        shown = dict(stored)
        if entries is not None:
            shown = dict.fromkeys(stored, "") | {entry["entity"]: entry["level"] for entry in entries}
        known = holders(shown)
        rows = [Row(known[entity], level, stored.get(entity, "")) for entity, level in shown.items()]
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
            **{"typed_entity": "", "access_error": "", "holder": None, "access": None, **context},
        )

    def show_preview(
        self,
        experiment: Experiment,
        preview: Preview,
        hidden: Iterable[tuple[str, str]],
        stays_manager: bool = False,
    ) -> HttpResponse:
        """Render the preview. `stays_manager`: saving keeps the caller a manager, against the submitted list."""
        return self.show_of(
            experiment,
            "permissions_preview.html",
            preview=preview,
            stays_manager=stays_manager,
            own=access_of(experiment, self.identity),
            may_keep_editing=self.action == "change",
            hidden=[("version", preview.version), *hidden],
        )


def entries_in(form: QueryDict) -> Iterator[dict[str, str]]:
    """The entries in the form. An empty row for a new entry is left out."""
    for entity, level in zip(form.getlist("entity"), form.getlist("level"), strict=False):
        if entity.strip():
            yield {"entity": entity.strip(), "level": level}


def problems_of(error: ValidationError, entries: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """The problems of a refused list, each with the entity of its entry."""
    for place, sentence in sentences(error.detail):
        _, _, index = place.removesuffix(".entity").removesuffix(".level").partition(".")
        yield f"{entries[int(index)]['entity']}: {sentence}" if index.isdecimal() else sentence
