import path from 'node:path'

/** Arguments of a Node process of its own that runs files of the library, the demo or a spec as they are. */
export const TYPESCRIPT: readonly string[] = ['--require', path.join(__dirname, 'register.js')]
