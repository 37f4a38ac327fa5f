"""The same jobs on other stream processors, measured and checked beside ours."""
