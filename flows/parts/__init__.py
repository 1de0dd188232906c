"""Sources and sinks that several connector flows share: blocks in, engine interfaces out."""
