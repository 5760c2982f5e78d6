// The door of the dashboard, on a phone, a laptop and a wide screen, light and dark. Pictures land in out/screens.
import assert from "node:assert/strict"
import { test } from "node:test"
import { assertAccessible, openPage, screenshot } from "./harness/browser.mjs"
import { withKeys } from "./harness/keys.mjs"

const SIZES = [[360, 780], [1280, 800], [1920, 1080]] // prettier-ignore

// Texts that stick out of an element around them, and fields that are narrower than the browser would make them.
const tooSmall = (page) =>
  page.evaluate(() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    const found = []
    while (walker.nextNode()) {
      const range = document.createRange()
      range.selectNodeContents(walker.currentNode)
      if (!walker.currentNode.data.trim()) continue
      const text = range.getBoundingClientRect()
      for (let around = walker.currentNode.parentElement; around; around = around.parentElement) {
        const box = around.getBoundingClientRect()
        const out = text.left < box.left - 1 || text.right > box.right + 1 || text.top < box.top - 1 || text.bottom > box.bottom + 1
        if (out && getComputedStyle(around).display !== "inline") found.push(`${walker.currentNode.data.trim()} in ${around.tagName}`)
      }
    }
    for (const field of document.querySelectorAll("input:not([type=hidden])")) {
      const plain = document.body.appendChild(document.createElement("input"))
      if (field.offsetWidth < plain.offsetWidth) found.push(`${field.name} has ${field.offsetWidth} px`)
      plain.remove()
    }
    return found
  })

const wider = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)

for (const [width, height] of SIZES) {
  for (const colorScheme of ["light", "dark"]) {
    test(`the login of the dashboard holds its texts and does not scroll sideways: ${width} px, ${colorScheme}`, async (t) => {
      const { url } = await withKeys()
      const page = await openPage(t, `${url}/dashboard/login`, { viewport: { width, height }, colorScheme, expected: [/status of 401/] })
      assert.deepEqual([await tooSmall(page), await wider(page)], [[], 0])
      await page.fill("input[name=key]", "wrong")
      await page.click("button")
      await page.getByRole("alert").waitFor()
      assert.deepEqual([await tooSmall(page), await wider(page)], [[], 0])
      await assertAccessible(page)
      await screenshot(page, `dashboard-login-${width}-${colorScheme}`)
    })
  }
}
