"""The packed dataset: token shards on disk, documents laid out as sequences, batches, and batches on the device."""
