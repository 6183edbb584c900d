"""`python -m dicom_node` is `sinusnode`."""

from dicom_node.cli import main

if __name__ == "__main__":
    main()
