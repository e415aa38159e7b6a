"""The budgets, measured: each row of the table in a module of its own, side by side with its yardsticks."""

import services.telegram  # noqa: F401  patches the import of aiogram
