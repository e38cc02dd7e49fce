"""Search spaces: one YAML file each, read by `kmedclf.search.SearchSpace`."""
