"""What many of something cost: sockets, followers, waiting jobs, bytes.

section    the measurements, wired
crowd      many raw WebSockets of one process
sockets    memory of idle sockets
followers  one job's previews to many followers
queue      a queue of a hundred thousand jobs
files      upload and download of a large file
peers      one peer and three
"""
