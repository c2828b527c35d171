"""The one exception that is meant for the user's eyes.

Everything that a user can mend (a missing image, an unknown profile key, a full disk) is raised
as `Gz2vitError` with one sentence that names the file or value and says what to do. The command
line prints that sentence alone, as its last line, and a notebook shows it without a traceback;
any other exception is a fault of ours.
"""


class Gz2vitError(Exception):
    """One clear sentence for the user: what is wrong, where, and what to do about it."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback (its documented hook)."""
        return [f"{type(self).__name__}: {self}"]
