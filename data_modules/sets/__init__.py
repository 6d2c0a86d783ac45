"""The data sets, a file each: where its files are, who is a group, what to cite."""
