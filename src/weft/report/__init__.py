"""Reports of runs: what was learned, how the tasks fared beside one another, and what to set next."""
