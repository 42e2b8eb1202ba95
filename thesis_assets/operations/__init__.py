"""What commands, sensors and schedules do with the graph: registering, planning, executing, looking back; each a function that returns values.

May import Dagster's instance and partition types. Does not belong here: what Dagster is told of the graph (`defs/`), or printing (`cli/`).
"""
