// Every test of the pages in one process, so that they share their servers and the browser: node --test tests/browser/all.test.mjs
// A file alone runs as well: node --test tests/browser/shell.test.mjs
import "./shell.test.mjs"
