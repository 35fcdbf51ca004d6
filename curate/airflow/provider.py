"""What `airflow providers list` shows, and where Airflow finds the operators."""

from __future__ import annotations

from typing import Any

from curate import __version__

INTEGRATION = "Curate"


def get_provider_info() -> dict[str, Any]:
    """The provider's metadata; ``package-name`` must be the name of the distribution, or Airflow refuses it."""
    return {
        "package-name": "curate-data",
        "name": INTEGRATION,
        "description": "Choose, weigh and report on training data for language models.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://pypi.org/project/curate-data/",
                "tags": ["software"],
            }
        ],
        "operators": [{"integration-name": INTEGRATION, "python-modules": ["curate.airflow.operators"]}],
        "notifications": ["curate.airflow.notify.SelectionNotifier"],
    }
