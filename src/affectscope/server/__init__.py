"""An OpenAI-compatible server whose every reply is monitored and guarded."""
