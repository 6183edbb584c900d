"""The pages of the admin service: server-rendered, with small scripts and no other origin."""
