"""Media in and out: pictures and videos decoded within limits, results and previews encoded."""
