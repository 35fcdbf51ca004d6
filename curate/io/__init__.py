"""Files in and out: corpora and their partitions, formats, shards, manifest, run folders."""
