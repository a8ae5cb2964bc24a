"""Says which backends are well; knows nothing of the balancer."""
