"""From scores to a sample: budgets, keyed noise, exact cuts by streaming."""
