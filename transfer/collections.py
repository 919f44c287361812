"""The places of each collection: the export and import, the trash, the erasure of an account, the report of `doctor`.

tests/test_completeness.py fails for a collection without a row here, and tests that the rows are true. `doctor` names
every collection of the database, and warns of one without a row.
"""

from dataclasses import dataclass

UNUSED = "unused: rights come from entitlements and permissions"
BRIEF = "brief: each document expires"


@dataclass(frozen=True)
class Export:
    """The way in which a collection is exported and imported.

    `experiment`, `file` and `account` name the columns with the ids of what the documents belong to. `accounts` names
    those with ids of accounts at any depth, `excludes` another collection whose ids may not occur in this one, and
    `order` the columns that sort the documents of one experiment. `uncompared` names what the service writes by itself:
    documents that differ in these columns only are equal for an import.
    """

    experiment: str = ""
    file: str = ""
    account: str = ""
    accounts: tuple[str, ...] = ()
    excludes: str = ""
    order: tuple[str, ...] = ("_id",)
    uncompared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Places:
    """The places of one collection: how it is exported or why not, and what happens to its documents.

    `trash` says what the deletion of an experiment does to its documents, `erasure` what the erasure of an account
    does to those of the account.
    """

    name: str
    export: Export | str
    trash: str
    erasure: str


OF_NO_EXPERIMENT = "of no experiment"
REMOVED, MOVED = "removed in the end", "moved to the trash"
NOT_PERSONAL = "nothing personal"
KEEPS_ID = "keeps the id of the account, nothing else of it"

USERS, TOKENS = "accounts_user", "accounts_servicetoken"
EXPERIMENTS, TRASH, RUNS = "experiments_experiment", "experiments_deletedexperiment", "drifts_drift"
RUN_FILES, EVENTS = "files_runfile", "audit_event"

# In the order of the export and of the import. An import may be interrupted while the service serves: the experiments
# come late, because nobody sees their runs and files before. A file comes after its run and before its content,
# because the service removes files without a run, and content without a file.
COLLECTIONS = (
    Places(
        USERS,
        Export(uncompared=("last_login", "last_seen_at", "entitlements", "entitlements_issued_at")),
        OF_NO_EXPERIMENT,
        "deleted",
    ),
    Places(
        TOKENS,
        Export(account="user_id", accounts=("user_id",), uncompared=("last_used_at",)),
        "names the experiment still",
        "deleted",
    ),
    Places(RUNS, Export(experiment="experiment_id", order=("created_at", "_id")), REMOVED, NOT_PERSONAL),
    Places(RUN_FILES, Export(experiment="experiment_id", accounts=("created_by",)), REMOVED, KEEPS_ID),
    Places("run_files.files", Export(file="_id"), REMOVED, NOT_PERSONAL),
    Places("run_files.chunks", Export(file="files_id", order=("files_id", "n")), REMOVED, NOT_PERSONAL),
    Places(
        EXPERIMENTS,
        Export(
            experiment="_id",
            accounts=("permissions",),
            excludes=TRASH,
            uncompared=("recomputation", "restored_at", "retention_seen", "retention_seen_at"),
        ),
        MOVED,
        "loses the permissions of the account",
    ),
    Places(
        TRASH,
        Export(experiment="_id", accounts=("permissions", "deleted_by"), excludes=EXPERIMENTS),
        REMOVED,
        "loses the permissions of the account",
    ),
    Places(
        EVENTS,
        Export(experiment="experiment_id", accounts=("actor", "target")),
        "stays until it expires",
        KEEPS_ID,
    ),
    Places("accounts_droppedkeys", "a cache", OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places("accounts_failedlogins", BRIEF, OF_NO_EXPERIMENT, "digests only, which expire"),
    Places("auth_group", UNUSED, OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places("auth_group_permissions", UNUSED, OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places("auth_permission", "made by manage.py migrate", OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places(
        "django_admin_log",
        f"{EVENTS} has the same actions, and its ids of types differ in each database",
        "names the experiment still",
        f"entries of the account are deleted; one about it {KEEPS_ID}",
    ),
    Places("django_content_type", "made by manage.py migrate", OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places("django_migrations", "made by manage.py migrate", OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places("django_session", "sessions end: people log in again", OF_NO_EXPERIMENT, "deleted"),
    Places("drifts_upgrade", "an import makes the upgrade visit all runs again", OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places("files_sweep", "the place of a background task", OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places("driftwatch_backgroundtask", "the state of this service's processes", OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places("driftwatch_keptanswer", BRIEF, "sealed, and expires", "sealed, and expires"),
    Places("driftwatch_lock", "the state of this service's processes", OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places("driftwatch_requestcount", BRIEF, OF_NO_EXPERIMENT, "digests only, which expire"),
    Places("driftwatch_storedtotal", "a cache", OF_NO_EXPERIMENT, NOT_PERSONAL),
    # Django makes collections of embedded models, too. They stay empty.
    Places("audit_actor", "always empty", OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places("audit_target", "always empty", OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places("experiments_deleter", "always empty", OF_NO_EXPERIMENT, NOT_PERSONAL),
    Places("experiments_permission", "always empty", OF_NO_EXPERIMENT, NOT_PERSONAL),
)
BY_NAME = {places.name: places for places in COLLECTIONS}
EXPORTED = {places.name: places.export for places in COLLECTIONS if isinstance(places.export, Export)}
