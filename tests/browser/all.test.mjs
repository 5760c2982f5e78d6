// Every test of the pages in one process, so that they share their servers and the browser: node --test tests/browser/all.test.mjs
// A file alone runs as well: node --test tests/browser/shell.test.mjs
import "./shell.test.mjs"
import "./form.test.mjs"
import "./jobs.test.mjs"
import "./tools.test.mjs"
import "./story.test.mjs"
import "./gallery.test.mjs"
import "./input.test.mjs"
import "./key.test.mjs"
import "./look.test.mjs"
import "./faults.test.mjs"
import "./dashboard.test.mjs"
