"""What people see: pages that work without JavaScript, and better with it. `door` lets them in."""
