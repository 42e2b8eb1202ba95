"""Print the table of which look compares which files, as it stands in docs/read_the_results.md."""

from thesis_assets.operations.integrity_audit import coverage_table

if __name__ == "__main__":
    print(coverage_table())
