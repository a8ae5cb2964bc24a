"""`python -m balancer.worker SLOT SOCKET`: how a supervisor starts a worker; not for people."""

import sys

from balancer.worker.process import main

if __name__ == "__main__":
    sys.exit(main())
