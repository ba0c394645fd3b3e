// Helpers that the pages share.
export const $ = (id) => document.getElementById(id)
export const make = (tag, className, text = '') => Object.assign(document.createElement(tag), { className, textContent: text })
export const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false })
export const number = (value) => value.toLocaleString('en')
export const plural = (value, noun) => `${number(value)} ${noun}${value === 1 ? '' : 's'}`
const counts = {}

/** Adds to a count that the page shows. The counts of faults turn red. */
export function count(id, more) {
  counts[id] = (counts[id] ?? 0) + more
  $(id).textContent = number(counts[id])
  if (id === 'doubled' || id === 'missing') $(id).className = 'wrong'
}

/** Adds an entry to the journal of the stream, with the data of its event if there is any. */
export function note(className, name, text, data) {
  const item = make('li', className)
  const head = make('div', 'head')
  head.append(make('b', '', name), make('time', '', clock(Date.now())))
  item.append(head, make('div', '', text))
  if (data !== undefined) {
    const code = make('code', '')
    for (const part of data.split(/(?<=,)/)) code.append(part, document.createElement('wbr'))
    item.append(code)
  }
  $('journal').prepend(item)
}
