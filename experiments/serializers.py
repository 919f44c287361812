"""Serializers of experiments, permissions and access."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from rest_framework import serializers

from accounts.models import User
from core.api.serializers import (
    StrictChoice,
    StrictInteger,
    StrictModelSerializer,
    StrictObject,
    StrictSerializer,
    StrictText,
    Tags,
)
from core.identity import Level, identity_of
from experiments.models import (
    TOO_MANY_PERMISSIONS,
    DeletedExperiment,
    Deleter,
    Experiment,
    NoManager,
    Permission,
    canonical_entity,
    completed,
    max_permissions,
)
from experiments.run_rules import (
    MAPPABLE_FIELDS,
    MAX_RETENTION_DAYS,
    MAX_RUN_TIMEOUT,
    MAX_SERIES_BY,
    SERIES_FIELDS,
    default_series_by,
)
from experiments.run_rules_serializers import FieldMap, RecomputationSerializer, SeriesBy
from experiments.sharing import Preview, UnknownUser, ids_of_emails, is_email, named_user, preview_of


class PermissionListSerializer(serializers.ListSerializer[Any]):
    def to_internal_value(self, data: Any) -> list[Any]:
        """Refuse a list that is too long before its entries are validated."""
        most = max_permissions(self.root.instance)
        if isinstance(data, list) and len(data) > most:
            raise serializers.ValidationError([TOO_MANY_PERMISSIONS.format(most)])
        return super().to_internal_value(data)


class PermissionSerializer(StrictModelSerializer):
    entity = StrictText(
        min_length=1,
        max_length=255,
        trim_whitespace=True,
        help_text="A user's id, the email of a registered user (kept as their id), or an entitlement.",
    )
    level = StrictChoice(choices=Level.choices)

    class Meta:
        model = Permission
        fields = ("entity", "level")
        list_serializer_class = PermissionListSerializer

    def validate_entity(self, entity: str) -> str:
        return canonical_entity(entity)

    def validate(self, entry: dict[str, str]) -> dict[str, str]:
        """Require both fields, in a PATCH too, where serializers require none."""
        if missing := self.fields.keys() - entry.keys():
            raise serializers.ValidationError({name: ["This field is required."] for name in sorted(missing)})
        return entry


class CallerManages:
    """The default permission list: the caller manages the experiment."""

    requires_context = True

    def __call__(self, field: serializers.Field[Any, Any, Any, Any]) -> list[dict[str, str]]:
        user = identity_of(field.context["request"]).user
        assert user is not None
        return [{"entity": str(user.id), "level": Level.MANAGE}]


class SharingSerializer(StrictModelSerializer):
    """The fields that give access to an experiment."""

    permissions = PermissionSerializer(many=True, default=CallerManages())

    class Meta:
        model = Experiment
        fields: tuple[str, ...] = ("permissions", "public")
        extra_kwargs = {"public": {"default": False}}

    def validate_permissions(self, entries: list[dict[str, str]]) -> list[Permission]:
        """Return the permissions. An entity that the list names twice, as older clients do, holds the higher level."""
        levels: dict[str, Level] = {}
        for entity, entry in zip(self.named([entry["entity"] for entry in entries]), entries, strict=True):
            level = Level(entry["level"])
            levels[entity] = max(levels.get(entity, level), level, key=lambda level: level.rank)
        return [Permission(entity=entity, level=level) for entity, level in levels.items()]

    def named(self, entities: list[str]) -> list[str]:
        """Replace emails by user ids.

        Entitlements may look like emails. Entitlements of the caller and entries of the stored list are left unchanged.
        """
        identity = identity_of(self.context["request"])
        known = identity.entitlements | entities_of(self.instance)
        ids = ids_of_emails({entity for entity in entities if entity not in known and is_email(entity)}, identity)
        named = [ids.get(entity, entity) for entity in entities]
        problems = [{"entity": [str(name)]} if isinstance(name, UnknownUser) else {} for name in named]
        if any(problems):
            raise serializers.ValidationError(problems)
        return [str(name) for name in named]

    def preview(self) -> Preview:
        """The changes that saving would make, after the same validation and completion."""
        experiment, changes = self.instance, self.validated_data
        assert isinstance(experiment, Experiment)
        after = experiment.permissions
        if "permissions" in changes:
            with manager_required():
                after = completed(changes["permissions"], identity_of(self.context["request"]))
        return preview_of(experiment, after, changes.get("public", experiment.public))

    def update(self, experiment: Experiment, changes: dict[str, Any]) -> Experiment:
        with manager_required():
            experiment.update_by(identity_of(self.context["request"]), **changes)
        return experiment


def entities_of(experiment: Experiment | None) -> frozenset[str]:
    return frozenset(entry.entity for entry in experiment.permissions) if experiment else frozenset()


class ExperimentSerializer(SharingSerializer):
    """An experiment. `permissions` is empty for callers without a level through it, except for administrators."""

    name = StrictText(max_length=255)
    description = StrictText(required=False, allow_blank=True)
    tags = Tags(required=False)
    config = StrictObject(required=False, help_text="Any JSON object.")
    series_by = SeriesBy(
        required=False,
        help_text=f"The fields whose values the runs of one series share: at most {MAX_SERIES_BY} of "
        f"{', '.join(SERIES_FIELDS)} and paths below `parameters.`. An empty list restores the default.",
    )
    field_map = FieldMap(
        required=False,
        help_text="The fields of runs that parameters fill if the client does not send them: each name with a path "
        f"below `parameters.`. Names: {', '.join(MAPPABLE_FIELDS)}.",
    )
    recomputation = RecomputationSerializer(
        read_only=True, allow_null=True, help_text="The progress of applying a changed rule to stored runs, or null."
    )
    run_timeout = StrictInteger(
        min_value=1,
        max_value=MAX_RUN_TIMEOUT,
        allow_null=True,
        required=False,
        help_text="Seconds that a run may take without a heartbeat, unless it has its own `run_timeout`.",
    )
    retention_days = StrictInteger(
        min_value=1,
        max_value=MAX_RETENTION_DAYS,
        allow_null=True,
        required=False,
        help_text="Days after `observed_at` at which a run that has ended is removed, for good; null keeps runs. The "
        "operator of the service may have set a shorter time. See `GET /experiment/{experiment_id}/retention`.",
    )
    cleared_by_null: ClassVar[dict[str, Any]] = {
        "description": str,
        "tags": list,
        "config": dict,
        "series_by": default_series_by,
        "field_map": dict,
    }

    class Meta(SharingSerializer.Meta):
        fields = (
            "id",
            "name",
            "description",
            "public",
            "permissions",
            "tags",
            "config",
            "series_by",
            "field_map",
            "run_timeout",
            "retention_days",
            "recomputation",
            "created_at",
            "updated_at",
            "archived_at",
        )
        read_only_fields = ("id", "recomputation", "created_at", "updated_at", "archived_at")

    def create(self, fields: dict[str, Any]) -> Experiment:
        return Experiment.objects.create_by(identity_of(self.context["request"]), **fields)

    def to_representation(self, experiment: Experiment) -> dict[str, Any]:
        shown = super().to_representation(experiment)
        shown["series_by"] = list(experiment.run_rules.series_by)
        shown["field_map"] = dict(experiment.run_rules.field_map)
        if not experiment.shows_permissions_to(identity_of(self.context["request"])):
            shown["permissions"] = []
        return shown


class DeleterSerializer(serializers.ModelSerializer[Deleter]):
    """The user who deleted an experiment, with the name of that time: an email, or else the subject."""

    class Meta:
        model = Deleter
        fields = ("user_id", "name")
        read_only_fields = fields


class DeletedExperimentSerializer(ExperimentSerializer):
    """An experiment in the trash, as it was when it was deleted."""

    deleted_by = DeleterSerializer(
        read_only=True, allow_null=True, help_text="Null for the command line, and if the account is erased."
    )
    purge_at = serializers.DateTimeField(
        read_only=True, help_text="When it is removed for good: `TRASH_DAYS` after `deleted_at`."
    )

    class Meta:
        model = DeletedExperiment
        fields = (*ExperimentSerializer.Meta.fields, "deleted_at", "deleted_by", "purge_at", "runs")
        read_only_fields = fields


@contextmanager
def manager_required() -> Iterator[None]:
    """Turn `NoManager` into a `ValidationError` of the field `permissions`."""
    try:
        yield
    except NoManager as error:
        raise serializers.ValidationError({"permissions": [str(error)]}) from error


class HandoverSerializer(StrictSerializer):
    entity = StrictText(
        max_length=255, trim_whitespace=True, help_text="The id or email of the new manager, a registered user."
    )
    keep = StrictChoice(
        Level.choices, allow_null=True, default=Level.READ.value, help_text="The level that you keep; null for none."
    )

    def validate_entity(self, entity: str) -> User:
        identity = identity_of(self.context["request"])
        try:
            manager = named_user(entity, identity)
        except UnknownUser as error:
            raise serializers.ValidationError(str(error)) from error
        if manager == identity.user:
            raise serializers.ValidationError("You already manage this experiment. Enter another user.")
        return manager

    def validate_keep(self, level: str | None) -> Level | None:
        return Level(level) if level else None


LEVEL_OR_NONE: Any = {"choices": Level.choices, "allow_null": True}


class ReasonSerializer(serializers.Serializer[Any]):
    via = serializers.ChoiceField(["direct", "group", "public", "admin"])
    entity = serializers.CharField(allow_null=True, help_text="The entry of the permission list that gives the level.")
    level = serializers.ChoiceField(Level.choices)


class AccessSerializer(serializers.Serializer[Any]):
    """A level on an experiment, and why."""

    entity = serializers.CharField(
        allow_null=True, help_text="The user id or entitlement that has the level; null for an unregistered caller."
    )
    level = serializers.ChoiceField(**LEVEL_OR_NONE, help_text="The highest level of the reasons; null without any.")
    reasons = ReasonSerializer(many=True)
    complete = serializers.BooleanField(help_text="Whether every reason is known.")
    note = serializers.CharField(help_text="The limits of this information.")


class ChangeSerializer(serializers.Serializer[Any]):
    entity = serializers.CharField()
    before = serializers.ChoiceField(**LEVEL_OR_NONE)
    after = serializers.ChoiceField(**LEVEL_OR_NONE)


class PublicChangeSerializer(serializers.Serializer[Any]):
    before = serializers.BooleanField()
    after = serializers.BooleanField()


class PreviewSerializer(serializers.Serializer[Any]):
    """The changes of access by an update. Levels are those of the list; `public` is access for everybody."""

    gains = ChangeSerializer(many=True)
    losses = ChangeSerializer(many=True)
    public = PublicChangeSerializer()
