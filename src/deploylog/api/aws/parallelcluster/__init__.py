"""The ParallelCluster dialect: AWS ParallelCluster's stack events of images and clusters."""
