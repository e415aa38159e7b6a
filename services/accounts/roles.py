"""The roles of accounts and tokens, each with all that the one before it may do."""

from enum import StrEnum


class Role(StrEnum):
    """What somebody may do on the operators' page."""

    VIEWER = "viewer"  #: look at every page but the audit and the accounts
    OPERATOR = "operator"  #: act on texts, queues and dead letters
    ADMIN = "admin"  #: purge queues, read the audit, change accounts and tokens

    def allows(self, needed: "Role") -> bool:
        """Whether this role may do what ``needed`` may do."""
        return _RANKS[self] >= _RANKS[needed]


_RANKS = {role: rank for rank, role in enumerate(Role)}

#: The role on record for the command line: whoever can reach the database may do everything.
SHELL = "shell"
#: The account that ADMIN_PASSWORD opens.
BUILTIN = "admin"
