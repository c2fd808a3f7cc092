"""What `fit` needs: schedules, callbacks, losses, distillation."""
