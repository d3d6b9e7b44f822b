"""Makes a draft for a target: text by the target itself, a student cut from it, distillation, export."""
