"""Airflow 3: operators around the library's calls, and what tells Airflow about them.

Nothing is imported here: `curate.airflow.operators` brings Airflow, and a task's own process the library.
"""
