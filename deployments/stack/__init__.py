"""The local stack: `stack.up` and `stack.down` start and end it under supervisord, `status.look` reads its state."""
