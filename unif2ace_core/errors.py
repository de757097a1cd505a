"""The one exception that a user is meant to read."""


class UserError(ValueError):
    """A failure the user can mend: one line that says what was wrong and what to do."""
