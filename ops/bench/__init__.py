"""The budgets, measured: each row of the table in a module of its own, side by side with its yardsticks."""

import services  # noqa: F401  before anything else imports aiogram: it makes its models the way the bot does
