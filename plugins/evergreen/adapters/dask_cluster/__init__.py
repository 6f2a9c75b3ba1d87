"""A cluster of Dask: one that lives as long as the work on this machine, or one that is there already."""

from evergreen.adapters.dask_cluster.cluster import DaskCluster

__all__ = ["DaskCluster"]
