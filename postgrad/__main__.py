from postgrad.cli import main

main()
