// @ts-check
// The API key, where the server asks for one: kept by the browser for as long as this tab lives, and sent in headers only.
import { el } from "./dom.js"

const KEY = "koma.key"
const needed = document.documentElement.dataset.keys === "needed"

/** The key; null where none is needed. */
export function key() {
  return needed ? sessionStorage.getItem(KEY) : null
}

/** The headers of a request. @returns {Record<string, string>} */
export function headers() {
  const secret = key()
  return secret ? { authorization: `Bearer ${secret}` } : {}
}

/** Forgets the key, and begins anew with the question for one. */
export function forgetKey() {
  sessionStorage.removeItem(KEY)
  location.reload()
}

/** Asks until there is a key that the server knows; at once where none is needed. */
export async function haveKey() {
  if (!needed || key()) return
  const problem = el("p.error", { id: "key-error", role: "alert" })
  const secret = el("input", { id: "key", type: "password", autocomplete: "current-password", required: true, "aria-describedby": "key-error key-help" })
  const help = el("p.help", { id: "key-help" }, "Whoever runs this server gives out keys. This tab keeps yours until it is closed.")
  const form = el("form.panel", { method: "dialog" }, el("h1", {}, "Koma Studio"), el("div.field", {}, el("label", { htmlFor: "key" }, "API key"), secret, problem, help), el("button.primary", { type: "submit" }, "Enter"))
  const dialog = el("dialog.entrance", { "aria-label": "API key", onclose: () => dialog.isConnected && dialog.showModal() }, form)
  document.body.append(dialog)
  dialog.showModal()
  await new Promise((resolve) =>
    form.addEventListener("submit", async (/** @type {Event} */ event) => {
      event.preventDefault()
      problem.textContent = await refusal(secret.value.trim())
      if (!problem.textContent) resolve(sessionStorage.setItem(KEY, secret.value.trim()))
    }),
  )
  dialog.remove()
}

/** What is wrong with a key; empty: nothing. @param {string} secret */
async function refusal(secret) {
  if (!/^[\x21-\x7e]+$/.test(secret)) return "A key has letters and digits, and no blanks."
  const response = await fetch("/v1/models", { headers: { authorization: `Bearer ${secret}` } }).catch(() => null)
  if (!response) return "The server cannot be reached at the moment."
  return response.status === 401 ? "The server does not know this key." : ""
}
