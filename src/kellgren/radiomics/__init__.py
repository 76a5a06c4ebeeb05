"""Systems that grade knees from radiomic features, and write the same run folders as networks."""
