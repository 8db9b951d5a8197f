"""What runs in the child: boot, application, reactor."""
