"""An active-active HTTP load balancer: answers client requests through pools of backends."""
