"""What papers claim, each claim a function in the module of its paper: the comparisons that decide it."""
