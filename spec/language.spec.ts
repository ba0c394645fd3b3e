import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

const ROOT = path.join(__dirname, '..')
/** Folders whose sources are read. `spec` and `demo` can be added. */
const FOLDERS: readonly string[] = ['lib', 'spec', 'demo']
const MAX_COLUMNS = 140
/** Words that open a relative clause or a vague subject. A comment opens with a noun or a verb instead. */
const OPENINGS = [
  'what|who|whoever|whose|whom|whichever|whatever|whenever|wherever|somebody|those',
  'so (?:many|long|much|often)',
  'how (?:many|long|much|often|far)',
]
const OPENING = new RegExp(`^(?:${OPENINGS.join('|')})\\b`, 'i')
/** A comment that gives instructions to a tool. */
const DIRECTIVE = /^(?:oxlint-|@ts-)/

interface Comment {
  readonly line: number
  readonly text: string
}

const BLOCK = /^\s*\/\*+(?!\/)(.*)$/
const SLASHES = /(?:^|\s)\/\/(.*)$/
/** A line that is nothing but a comment, and no instruction to a tool. */
const SLASHES_ALONE = /^\s*\/\/(?!\s*(?:oxlint-|@ts-))(.*)$/

/** The comments of a source: each block, and each stretch of lines that begin with two slashes. */
function commentsOf(source: string): Comment[] {
  const comments: Comment[] = []
  const lines = source.split('\n')
  for (let n = 0; n < lines.length; n++) {
    const line = n + 1
    const parts: (string | undefined)[] = []
    const code = lines[n] as string
    const block = BLOCK.exec(code)
    if (block !== null) {
      parts.push(block[1])
      while (!(lines[n] ?? '*/').includes('*/')) parts.push((lines[++n] ?? '').replace(/^\s*\* ?/, ''))
    } else if (!/['"`].*\/\/.*['"`]/.test(code)) {
      parts.push(SLASHES.exec(code)?.[1])
      if (SLASHES_ALONE.test(code)) {
        while (SLASHES_ALONE.test(lines[n + 1] ?? '')) parts.push(SLASHES_ALONE.exec(lines[++n] as string)?.[1])
      }
    }
    const text = parts
      .map((part = '') => part.replace(/\s*\*\/.*$/, '').trim())
      .join(' ')
      .trim()
    if (text !== '' && !DIRECTIVE.test(text)) comments.push({ line, text })
  }
  return comments
}

const files = FOLDERS.flatMap((folder) =>
  readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.[jt]s$/.test(file))
    .map((file) => path.join(folder, file)),
)
const sources = files.map((file) => ({ file, text: readFileSync(path.join(ROOT, file), 'utf8') }))

describe('the language of the sources', () => {
  it('opens every comment with a noun or a verb', () => {
    const comments = sources.flatMap(({ file, text }) => commentsOf(text).map((comment) => ({ file, ...comment })))
    expect(comments.length).toBeGreaterThan(50)
    const wrong = comments.filter(({ text }) => OPENING.test(text) || OPENING.test(text.replace(/^@\w+(?: \w+)?\s*/, '')))
    expect(wrong.map(({ file, line, text }) => `${file}:${line} ${text.slice(0, 60)}`)).toEqual([])
  })

  it(`has no line of more than ${MAX_COLUMNS} columns`, () => {
    const long = sources.flatMap(({ file, text }) =>
      text.split('\n').flatMap((line, n) => (line.length > MAX_COLUMNS ? [`${file}:${n + 1}`] : [])),
    )
    expect(long).toEqual([])
  })
})

describe('the reader of comments', () => {
  it('gives each comment as a whole, with its line', () => {
    const source = [
      '/** What is',
      ' * left. */',
      "const url = 'http://host'",
      'let n = 0 // Who knows',
      '  // Those',
      '  // who wait.',
      '// oxlint-disable-next-line no-console',
      '/* A noun. */',
    ].join('\n')
    expect(commentsOf(source)).toEqual([
      { line: 1, text: 'What is left.' },
      { line: 4, text: 'Who knows' },
      { line: 5, text: 'Those who wait.' },
      { line: 8, text: 'A noun.' },
    ])
  })
})
