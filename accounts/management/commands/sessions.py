"""`manage.py sessions`: lists browser sessions, and ends them."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import pluralize

from accounts.management.users import HELP, get_user
from accounts.stored_sessions import StoredSession, stored_sessions
from core.printable import escaped

ROW = "{:<12}  {:<8}  {:<20}  {:<20}  {}"
TIME = "%Y-%m-%d %H:%M UTC"


class Command(BaseCommand):
    help = "List the sessions of browsers, or end some of them: sessions end ID, --user USER or --all."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", nargs="?", choices=["end"], help="end sessions; without it, they are listed")
        parser.add_argument("id", nargs="?", help="the id of the session to end, from the list")
        parser.add_argument("--user", help=f"only sessions of one user: {HELP}")
        parser.add_argument("--all", action="store_true", help="end the sessions of all users")

    def handle(self, *args: Any, **options: Any) -> None:
        sessions = stored_sessions(get_user(options["user"]) if options["user"] else None)
        if options["action"] == "end":
            self.end(sessions, options)
        else:
            self.show(sessions)

    def show(self, sessions: list[StoredSession]) -> None:
        self.stdout.write(ROW.format("id", "login", "started", "ends", "user"))
        for session in sessions:
            login = "provider" if session.is_of_provider else "password"
            started = f"{session.started_at:{TIME}}" if session.started_at else "-"
            user = f"{escaped(str(session.user))} ({session.user.id})"
            self.stdout.write(ROW.format(session.id, login, started, f"{session.ends_at:{TIME}}", user))

    def end(self, sessions: list[StoredSession], options: dict[str, Any]) -> None:
        if sum(bool(options[name]) for name in ("id", "user", "all")) != 1:
            raise CommandError("Give the id of a session, --user or --all. manage.py sessions lists the ids.")
        chosen = [session for session in sessions if options["id"] in (None, session.id)]
        if options["id"] and not chosen:
            raise CommandError(f"No session has the id {options['id']}: it may have ended. List them again.")
        for session in chosen:
            session.end()
        self.stdout.write(f"{len(chosen)} session{pluralize(len(chosen))} ended.")
