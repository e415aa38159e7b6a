"""The benchmarks: one module for each row of the table of budgets, with the simpler designs beside it."""

import services.telegram  # noqa: F401  patches the import of aiogram
