"""The local stack: `stack.up` and `stack.down` start and end it under supervisord, `status.stack_status` reads its state."""
