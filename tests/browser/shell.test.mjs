// The page before anything is asked of it.
import assert from "node:assert/strict"
import { test } from "node:test"
import { openPage } from "./harness/browser.mjs"
import { toyServer } from "./harness/suite.mjs"

test("a page may load from its own server only", async (t) => {
  const { url } = await toyServer()
  const { headers } = await fetch(url)
  const policy = headers.get("content-security-policy")
  assert.match(policy, /default-src 'none'/)
  assert.doesNotMatch(policy, /unsafe|https?:|\*/)
  assert.equal(headers.get("x-content-type-options"), "nosniff")
  const page = await openPage(t, url)
  assert.match(await page.title(), /Koma Studio$/)
})

test("static files have their media type, are revalidated, and nothing outside their folder is served", async () => {
  const { url } = await toyServer()
  const script = await fetch(`${url}/static/vendor/phoenix.mjs`)
  assert.equal(script.status, 200)
  assert.equal(script.headers.get("content-type"), "text/javascript")
  assert.equal(script.headers.get("cache-control"), "no-cache")
  const again = await fetch(script.url, { headers: { "if-none-match": script.headers.get("etag") } })
  assert.equal(again.status, 304)
  for (const path of ["/static/none.js", "/static/%2e%2e/demo/input.mp4", "/static/..%2fdemo%2finput.mp4", "/static/"]) {
    const { status } = await fetch(url + path)
    assert.ok([400, 403, 404].includes(status), `${path}: ${status}`)
  }
})
