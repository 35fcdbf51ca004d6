"""The steps of a run. Each does one partition: read, work, write under a temporary name, rename."""
