import path from 'node:path'

/** Arguments that let a Node process run the TypeScript files of the library, the demo and the specs. */
export const TYPESCRIPT: readonly string[] = ['--require', path.join(__dirname, 'register.js')]
