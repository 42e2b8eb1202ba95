"""Which triplets a scene gives, exporting one shard a scene, collecting shards, integrity."""
