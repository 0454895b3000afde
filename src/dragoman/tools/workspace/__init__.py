"""The workspace toolset: files inside one folder that neither `..` nor a link can leave."""
